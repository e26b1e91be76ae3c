// The original framework, with an engine on the simulated ledger, which it reaches over HTTP:
//     node peer.js PORT CONNECTOR_URL REDIS_URL LEDGER_URL ADDRESS STATE_FILE
// It is careful where an engine can be: it submits a payment under one id until the ledger is final about it, and says
// what it does, a line each. With THROWS set it gives up if the ledger refuses a payment, as most engines would.
const { connectRedis, startServer } = require('ilp-settlement-core')
const { BigNumber } = require('bignumber.js')
const { randomUUID } = require('crypto')
const { existsSync, readFileSync, renameSync, writeFileSync } = require('fs')

const [port, connectorUrl, redisUrl, ledgerUrl, address, stateFile] = process.argv.slice(2)
const state = existsSync(stateFile) ? JSON.parse(readFileSync(stateFile)) : { cursor: 0, memos: {} }
const peers = {}

// in one step: it may be killed at any moment
const save = () => {
  writeFileSync(`${stateFile}.new`, JSON.stringify(state))
  renameSync(`${stateFile}.new`, stateFile)
}
const say = (...words) => console.log(words.join(' '))
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function ledger(method, path, content) {
  const body = content && JSON.stringify(content)
  const answer = await fetch(ledgerUrl + path, { method, body })
  if (!answer.ok) throw new Error(`the ledger answered ${answer.status}`)
  return answer.json()
}

// What the ledger says at last of a payment that is submitted, again and again, under one id: whether it moved.
async function pay(transfer) {
  for (;;) {
    const { state } = await ledger('GET', `/transfers/${transfer.tx_id}`).catch(() => ({}))
    if (state === 'confirmed') return true
    if (state === 'failed') return false
    if (state === 'unknown') {
      await ledger('POST', '/transfers', transfer).catch((error) => {
        if (process.env.THROWS) throw error
      })
    }
    await sleep(40)
  }
}

function details(accountId) {
  if (!state.memos[accountId]) {
    state.memos[accountId] = randomUUID()
    save()
  }
  return { type: 'paymentDetails', address, memo: state.memos[accountId] }
}

async function connectEngine({ sendMessage, creditSettlement }) {
  async function watch() {
    const done = new Set()
    for (;;) {
      const found = await ledger('GET', `/incoming/${address}?after=${state.cursor}`).catch(() => [])
      for (const { seq, tx_id, amount, memo } of found) {
        const accountId = Object.keys(state.memos).find((id) => state.memos[id] === memo)
        // the ledger may repeat itself; like the original's own engines, this does not wait for the credit
        if (accountId && !done.has(seq)) {
          creditSettlement(accountId, new BigNumber(amount), `${tx_id}:${seq}`).then(() => say('credited', seq, amount))
        }
        done.add(seq)
        state.cursor = Math.max(state.cursor, seq)
      }
      save()
      await sleep(40)
    }
  }
  watch()

  return {
    async settle(accountId, amount) {
      while (!peers[accountId]) {
        const answer = await sendMessage(accountId, details(accountId)).catch(() => undefined)
        if (answer && answer.address) peers[accountId] = answer
        else await sleep(100)
      }
      const { address: destination, memo } = peers[accountId]
      for (;;) {
        const transfer = { tx_id: randomUUID(), source: address, destination, amount: amount.toFixed(), memo }
        say('begins', transfer.tx_id, transfer.amount)
        if (await pay(transfer)) return amount
      }
    },
    async handleMessage(accountId, { type, address: theirs, memo }) {
      if (type !== 'paymentDetails') return { type: 'error', message: 'expected paymentDetails' }
      if (theirs) peers[accountId] = { address: theirs, memo }
      return details(accountId)
    },
  }
}

async function main() {
  const store = await connectRedis({ uri: redisUrl })
  await startServer(connectEngine, store, { port: Number(port), connectorUrl })
  say('listening')
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
