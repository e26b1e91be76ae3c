// The original framework, with an engine that settles at once: node original.js PORT STORE_URL
//
// The engine answers the messages of benchmarks/instant.py.
const { connectRedis, createMemoryStore, startServer } = require('ilp-settlement-core')

async function main([port, storeUrl]) {
  const store = storeUrl === 'memory:' ? createMemoryStore() : await connectRedis({ uri: storeUrl })
  let settled = 0
  const createEngine = async () => ({
    settle: async (_accountId, amount) => {
      settled += amount.toNumber()
      return amount
    },
    handleMessage: async () => ({ settled }),
  })
  const server = await startServer(createEngine, store, { port: Number(port) })
  process.on('SIGTERM', () => server.shutdown().then(() => process.exit(0)))
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error)
  process.exit(1)
})
