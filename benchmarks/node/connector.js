// A connector that takes every credit once, and tells GET / how much that was: node connector.js PORT
const http = require('http')

const [port] = process.argv.slice(2)
const keys = new Set()
let amount = 0
let lastAt = 0

function take(key, quantity) {
  lastAt = Date.now() / 1000
  if (keys.has(key)) return
  keys.add(key)
  amount += Number(quantity.amount) / 10 ** quantity.scale
}

http
  .createServer((request, response) => {
    const chunks = []
    request.on('data', (chunk) => chunks.push(chunk))
    request.on('end', () => {
      if (request.method === 'GET') {
        response.end(JSON.stringify({ amount, credits: keys.size, last_at: lastAt }))
        return
      }
      const body = Buffer.concat(chunks).toString()
      take(request.headers['idempotency-key'], JSON.parse(body))
      response.writeHead(201, { 'content-type': 'application/json' })
      response.end(body)
    })
  })
  .listen(Number(port), '127.0.0.1')
