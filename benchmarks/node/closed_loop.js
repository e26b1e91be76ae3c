// Settlement requests in a closed loop: node closed_loop.js URL ACCOUNTS CONNECTIONS SECONDS → one line of JSON
const autocannon = require('autocannon')
const { body, headers, path } = require('./requests')

const [url, accounts, connections, seconds] = process.argv.slice(2)
let number = 0

const request = {
  method: 'POST',
  body,
  setupRequest: (built) => {
    number += 1
    return { ...built, path: path(number, Number(accounts)), headers: headers(number) }
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
        took_s: result.duration,
        per_second: result['2xx'] / result.duration,
        p50_ms: result.latency.p50,
        p99_ms: result.latency.p99,
      }),
    )
  },
)
