-- Enqueue entries of one direction of one account, in order; each once, whatever is repeated.
--
-- KEYS  account, entries, keys (of the direction), due, lease, rings (of the partition), then for incoming ones the
--       bucket of each
-- ARGV  direction (o or i), account id, the asking worker's lease token (or ''), channel of hints, number of entries,
--       then six for each entry: id, its amount in lowest terms, its amount as given, time, row, and the millisecond
--       of the caller's clock before which it must be recorded or not at all ('' for no bound),
--       then for incoming ones digest and mark of each, by which it is known if its credit has left the history
-- Answers the number of entries not yet counted into the totals, then one word for each entry:
--       'new', 'unknown', 'late', 'same <first amount>', 'other <first amount>', or 'known' or 'other' for one long ago
--
-- Amounts are compared as text in lowest terms and never calculated with.

local account, entries, keys, due, lease, rings = unpack(KEYS)
local direction, account_id, token, channel, count = unpack(ARGV, 1, 5)

local state, counted, account_number = unpack(redis.call('HMGET', account, 'state', 'counted.' .. direction, 'number'))
count = tonumber(count)
local answers = {0}
local entered = false

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) - AHEAD

local function mark_known(n)
  if direction == 'i' and account_number then
    return redis.call('HGET', KEYS[6 + n], ARGV[5 + 6 * count + 2 * n - 1] .. account_number)
  end
end

for n = 1, count do
  local i = 6 * n
  local id, lowest, amount, at, row, before = unpack(ARGV, i, i + 5)
  local answer
  local known = state and redis.call('HGET', keys, id)
  local mark = not known and mark_known(n)
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
  elseif mark then
    answer = mark == ARGV[5 + 6 * count + 2 * n] and 'known' or 'other'
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
