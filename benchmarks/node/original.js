// The original framework, with an engine that settles at once: node original.js PORT STORE_URL CONNECTOR_URL
//
// The engine answers the messages that the one of benchmarks/instant.py answers.
const { connectRedis, createMemoryStore, startServer } = require('ilp-settlement-core')
const BigNumber = require('bignumber.js')

const AT_ONCE = 64
const PAID = new BigNumber('1.5')

async function main([port, storeUrl, connectorUrl]) {
  const store = storeUrl === 'memory:' ? createMemoryStore() : await connectRedis({ uri: storeUrl })
  let settled = 0
  let credited = 0
  let crediting = 0
  let number = 0

  const createEngine = async (services) => {
    const credit = async (seconds, accounts) => {
      const deadline = Date.now() + seconds * 1000
      while (Date.now() < deadline) {
        await services.creditSettlement(`account-${number++ % accounts}`, PAID)
        credited += 1
      }
      crediting -= 1
    }
    return {
      settle: async (_accountId, amount) => {
        settled += amount.toNumber()
        return amount
      },
      handleMessage: async (_accountId, { credit_s: seconds, accounts }) => {
        if (seconds !== undefined) {
          crediting = AT_ONCE
          for (let started = 0; started < AT_ONCE; started += 1) credit(seconds, accounts)
        }
        return { settled, credited, crediting }
      },
    }
  }
  const server = await startServer(createEngine, store, { port: Number(port), connectorUrl })
  process.on('SIGTERM', () => server.shutdown().then(() => process.exit(0)))
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error)
  process.exit(1)
})
