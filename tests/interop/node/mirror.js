// The original framework, with an engine whose payments come back to it: node mirror.js PORT CONNECTOR_URL [REDIS_URL]
const { connectRedis, createMemoryStore, startServer } = require('ilp-settlement-core')
const { randomUUID } = require('crypto')

async function main([port, connectorUrl, redisUrl]) {
  const store = redisUrl ? await connectRedis({ uri: redisUrl }) : createMemoryStore()
  const connectEngine = async ({ creditSettlement }) => ({
    settle: async (accountId, amount) => {
      creditSettlement(accountId, amount, randomUUID())
      return amount
    },
    handleMessage: async (_accountId, message) => message,
  })
  await startServer(connectEngine, store, { port: Number(port), connectorUrl })
  console.log('listening')
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error)
  process.exit(1)
})
