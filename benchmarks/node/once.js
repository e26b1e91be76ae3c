// Every account once: node once.js URL accounts|settlements COUNT → {}, having opened each or asked each to settle
const autocannon = require('autocannon')
const { body, headers, path } = require('./requests')

const [url, what, count] = process.argv.slice(2)
const TRIES = 3
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

// a connection that was lost takes a request with it; to open an account again, or ask it once more, does no harm
function tryFor(tries) {
  const load = { url, connections: Math.min(16, Number(count)), amount: Number(count), requests: [request] }
  autocannon(load, (error, result) => {
    if (error) throw error
    if (result['2xx'] >= Number(count)) {
      console.log('{}')
      return
    }
    const { statusCodeStats, errors, timeouts } = result
    console.error(`${url} did not answer each of ${count}: ${JSON.stringify({ statusCodeStats, errors, timeouts })}`)
    if (tries === 1) process.exit(1)
    tryFor(tries - 1)
  })
}

tryFor(TRIES)
