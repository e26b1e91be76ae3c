// Settlement requests at a fixed rate: node open_loop.js URL ACCOUNTS RATE SECONDS → one line of JSON
//
// Request number n is due n / RATE seconds after the start, whatever became of those before it, and its latency counts
// from then on: a server that stalls is charged with all who would have asked meanwhile. One that is refused, or not
// answered within 10 s, counts as having taken 10 s.
const http = require('http')
const { body, headers, path } = require('./requests')

const [url, accounts, rate, seconds] = process.argv.slice(2)
const { hostname, port } = new URL(url)
const LONGEST_MS = 10000
const total = Math.round(Number(rate) * Number(seconds))
// further requests wait for a connection, and that counts, too
const agent = new http.Agent({ keepAlive: true, maxSockets: 256 })
const latencies = []
let refused = 0
let sent = 0

const now = () => Number(process.hrtime.bigint()) / 1e6
const started = now()
const due = (number) => started + (number * 1000) / Number(rate)

function ended(number, accepted) {
  if (!accepted) refused += 1
  latencies.push(accepted ? now() - due(number) : LONGEST_MS)
  if (latencies.length === total) report()
}

function send(number) {
  const options = { hostname, port, agent, method: 'POST', path: path(number, Number(accounts)), headers: headers(number) }
  const request = http.request(options, (response) => {
    response.resume()
    response.on('end', () => ended(number, response.statusCode === 201))
  })
  request.on('error', () => ended(number, false))
  request.end(body)
}

function tick() {
  while (sent < total && due(sent) <= now()) send(sent++)
  if (sent < total) setTimeout(tick, 1)
}

function report() {
  const sorted = [...latencies, ...Array(total - latencies.length).fill(LONGEST_MS)].sort((a, b) => a - b)
  const at = (share) => sorted[Math.min(total - 1, Math.floor(total * share))]
  refused += total - latencies.length
  console.log(JSON.stringify({ refused, p50_ms: at(0.5), p99_ms: at(0.99) }))
  process.exit(0)
}

setTimeout(report, Number(seconds) * 1000 + LONGEST_MS)
tick()
