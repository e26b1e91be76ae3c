// Every account once: node once.js URL accounts|settlements COUNT → {}, having opened each or asked each to settle
const autocannon = require('autocannon')
const { body, headers, path } = require('./requests')

const [url, what, count] = process.argv.slice(2)
let number = 0

const opening = (id) => ({ path: '/accounts', body: JSON.stringify({ id: `account-${id}` }) })
const asking = (id) => ({ path: path(id, Number(count)), body })

const request = {
  method: 'POST',
  setupRequest: (built) => {
    const id = number++ % Number(count)
    return { ...built, headers: headers(number), ...(what === 'accounts' ? opening(id) : asking(id)) }
  },
}

autocannon(
  { url, connections: Math.min(16, Number(count)), amount: Number(count), requests: [request] },
  (error, result) => {
    if (error) throw error
    if (result['2xx'] < Number(count)) throw new Error(`only ${result['2xx']} of ${count} answers were good`)
    console.log('{}')
  },
)
