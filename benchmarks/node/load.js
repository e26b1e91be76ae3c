// Settlement requests, each with a key of its own, from many connections in a closed loop:
// node load.js URL ACCOUNTS CONNECTIONS SECONDS → one line of JSON
const autocannon = require('autocannon')
const { randomBytes } = require('crypto')

const [url, accounts, connections, seconds] = process.argv.slice(2)
const run = randomBytes(8).toString('hex')
let number = 0

const request = {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ amount: '1500', scale: 3 }),
  setupRequest: (built) => {
    number += 1
    return {
      ...built,
      path: `/accounts/account-${number % Number(accounts)}/settlements`,
      headers: { ...built.headers, 'idempotency-key': `${run}-${number}` },
    }
  },
}

autocannon(
  { url, connections: Number(connections), duration: Number(seconds), requests: [request] },
  (error, result) => {
    if (error) throw error
    console.log(
      JSON.stringify({
        accepted: result['2xx'],
        refused: result.non2xx + result.errors + result.timeouts,
        per_second: result['2xx'] / result.duration,
        p50_ms: result.latency.p50,
        p99_ms: result.latency.p99,
      }),
    )
  },
)
