// The original framework, with an engine that settles at once: node original.js PORT [REDIS_URL]
const { connectRedis, createMemoryStore, startServer } = require('ilp-settlement-core')

async function main([port, redisUrl]) {
  const store = redisUrl ? await connectRedis({ uri: redisUrl }) : createMemoryStore()
  const engine = { settle: async (_accountId, amount) => amount }
  const server = await startServer(async () => engine, store, { port: Number(port) })
  process.on('SIGTERM', () => server.shutdown().then(() => process.exit(0)))
  console.log('listening')
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error)
  process.exit(1)
})
