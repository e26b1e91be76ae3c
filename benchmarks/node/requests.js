// Settlement requests, each with a key of its own, to one account after the other
const { randomBytes } = require('crypto')

const run = randomBytes(8).toString('hex')
const body = JSON.stringify({ amount: '1500', scale: 3 })

const path = (number, accounts) => `/accounts/account-${number % accounts}/settlements`
const headers = (number) => ({ 'content-type': 'application/json', 'idempotency-key': `${run}-${number}` })

module.exports = { body, headers, path }
