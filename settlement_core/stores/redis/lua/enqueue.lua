-- Enqueue entries of one direction of one account, in order; each once, whatever is repeated.
--
-- KEYS  account, entries, keys (of the direction), due, lease, rings (of the partition)
-- ARGV  direction (o or i), account id, the asking worker's lease token (or ''), channel of hints,
--       then six for each entry: id, its amount in lowest terms, its amount as given, time, row, and the millisecond
--       of the caller's clock before which it must be recorded or not at all ('' for no bound)
-- Answers the number of entries not yet counted into the totals, then one word for each entry:
--       'new', 'unknown', 'late', 'same <first amount>' or 'other <first amount>'
--
-- Amounts are compared as text in lowest terms and never calculated with.

local account, entries, keys, due, lease, rings = unpack(KEYS)
local direction, account_id, token, channel = unpack(ARGV, 1, 4)

local state, counted = unpack(redis.call('HMGET', account, 'state', 'counted.' .. direction))
local answers = {0}
local entered = false

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) - AHEAD

for i = 5, #ARGV, 6 do
  local id, lowest, amount, at, row, before = unpack(ARGV, i, i + 5)
  local answer
  local known = state and redis.call('HGET', keys, id)
  if known then
    local seq, used_at, first_lowest, first = string.match(known, '^(%S+) (%S+) (%S+) (%S+)$')
    if first_lowest == lowest then
      answer = 'same ' .. first
      if tonumber(at) > tonumber(used_at) then
        redis.call('HSET', keys, id, table.concat({seq, at, lowest, first}, ' '))
      end
    else
      answer = 'other ' .. first
    end
  elseif not state or (state == 'deleted' and direction == 'o') then
    answer = 'unknown'
  elseif before ~= '' and now >= tonumber(before) then
    answer = 'late'
  else
    local seq = redis.call('HINCRBY', account, 'seq.' .. direction, 1)
    redis.call('HSET', keys, id, table.concat({seq, at, lowest, amount}, ' '))
    redis.call('HSET', entries, seq, row)
    answer = 'new'
    entered = true
  end
  answers[#answers + 1] = answer
end

if entered then
  redis.call('ZADD', due, 0, account_id)
  answers[1] = tonumber(redis.call('HGET', account, 'seq.' .. direction)) - tonumber(counted or 0)
  local held, owner = unpack(redis.call('HMGET', lease, 'token', 'owner'))
  if held ~= token and owner and owner ~= '' then
    redis.call('ZADD', rings, redis.call('HINCRBY', lease, 'rings', 1), account_id)
    redis.call('PUBLISH', channel, owner)
  end
end
return answers
