// Open accounts: node accounts.js URL COUNT → {}
const autocannon = require('autocannon')

const [url, count] = process.argv.slice(2)
let number = 0

const request = {
  method: 'POST',
  path: '/accounts',
  headers: { 'content-type': 'application/json' },
  setupRequest: (built) => ({ ...built, body: JSON.stringify({ id: `account-${number++ % Number(count)}` }) }),
}

autocannon(
  { url, connections: Math.min(16, Number(count)), amount: Number(count), requests: [request] },
  (error, result) => {
    if (error) throw error
    if (result['2xx'] < Number(count)) throw new Error(`only ${result['2xx']} of ${count} accounts were opened`)
    console.log('{}')
  },
)
