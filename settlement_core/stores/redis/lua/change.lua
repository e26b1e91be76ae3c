-- Change one account, if it still is as it was when the change was decided.
--
-- KEYS  account, then for o and i each: entries, keys, took; then attempts, claims, notes (of the account);
--       due, accounts, history, unclosed, prunable, lease, rings, noted (of the partition);
--       then, if settlement ids are to stay known, numbers, buckets (of the partition), and a bucket for each of these
-- ARGV  a JSON object in which every value is text:
--       account      id
--       version      of the account when it was looked at, '' if there was none
--       becomes      its version from now on, unlike any other
--       lease        token that must be current, or ''
--       asker        the asking worker's token, or ''
--       channel      of hints
--       fields       fields and values of the account to set
--       busy         'yes' if there is a step, an open or a released attempt
--       opened       'yes' if the account is new
--       appended     pairs of direction and row: entries to queue
--       attempts     objects: id, row, direction, last (number of its last entry), new, unclosed, prunable, at
--       forgotten    objects: attempt, direction, first and last entry number, pairs of key and the row it must still have
--       left         ids of attempts that leave the history
--       known        number of the bucket, digest of a settlement id, and mark of its amount, for each bucket
--       notes        pairs of key and value, '' to delete
-- Answers 1, or 0 if the account, the lease or a key to be forgotten is not as it was, and nothing was changed.

local ACCOUNT = KEYS[1]
local LANES = {
  o = {entries = KEYS[2], keys = KEYS[3], took = KEYS[4]},
  i = {entries = KEYS[5], keys = KEYS[6], took = KEYS[7]},
}
local ATTEMPTS, CLAIMS, NOTES = KEYS[8], KEYS[9], KEYS[10]
local DUE, ACCOUNTS, HISTORY, UNCLOSED, PRUNABLE, LEASE, RINGS, NOTED = unpack(KEYS, 11, 18)

local change = cjson.decode(ARGV[1])

local version = redis.call('HGET', ACCOUNT, 'version') or ''
local token, owner = unpack(redis.call('HMGET', LEASE, 'token', 'owner'))
if version ~= change.version or (change.lease ~= '' and change.lease ~= token) then
  return 0
end
for _, old in ipairs(change.forgotten) do
  for i = 1, #old.keys, 2 do
    if redis.call('HGET', LANES[old.direction].keys, old.keys[i]) ~= old.keys[i + 1] then
      return 0
    end
  end
end

-- what follows may not fail half-way: the first write needs memory, and is refused with all others if there is none
redis.call('HSET', ACCOUNT, 'version', change.becomes, unpack(change.fields))
if change.opened == 'yes' then
  redis.call('ZADD', ACCOUNTS, 0, change.account)
end

for _, entry in ipairs(change.appended) do
  local direction, row = unpack(entry)
  local seq = redis.call('HINCRBY', ACCOUNT, 'seq.' .. direction, 1)
  redis.call('HSET', LANES[direction].entries, seq, row)
end

for _, attempt in ipairs(change.attempts) do
  local member = attempt.id .. '\n' .. change.account
  redis.call('HSET', ATTEMPTS, attempt.id, attempt.row)
  if attempt.new == 'yes' then
    -- claims follow one another, even if the clock that dates them stepped back; a double tells microseconds apart
    local at = tonumber(attempt.at)
    local latest = redis.call('ZREVRANGE', HISTORY, 0, 0, 'WITHSCORES')[2]
    if latest and at <= tonumber(latest) then
      at = tonumber(latest) + 0.000001
    end
    at = string.format('%.17g', at)
    redis.call('ZADD', HISTORY, at, member)
    redis.call('ZADD', CLAIMS, at, attempt.id)
    redis.call('ZADD', LANES[attempt.direction].took, attempt.last, attempt.id)
  end
  if attempt.unclosed == 'yes' then
    redis.call('ZADD', UNCLOSED, redis.call('ZSCORE', CLAIMS, attempt.id), member)
  else
    redis.call('ZREM', UNCLOSED, member)
  end
  if attempt.prunable ~= '' then
    redis.call('ZADD', PRUNABLE, attempt.prunable, member)
  end
end

for _, old in ipairs(change.forgotten) do
  local lane = LANES[old.direction]
  for seq = tonumber(old.first), tonumber(old.last) do
    redis.call('HDEL', lane.entries, seq)
  end
  for i = 1, #old.keys, 2 do
    redis.call('HDEL', lane.keys, old.keys[i])
  end
  redis.call('ZREM', lane.took, old.attempt)
  redis.call('ZREM', PRUNABLE, old.attempt .. '\n' .. change.account)
end

for _, id in ipairs(change.left) do
  local member = id .. '\n' .. change.account
  redis.call('HDEL', ATTEMPTS, id)
  redis.call('ZREM', CLAIMS, id)
  redis.call('ZREM', HISTORY, member)
  redis.call('ZREM', PRUNABLE, member)
end

if #change.known > 0 then
  local number = redis.call('HGET', ACCOUNT, 'number')
  if not number then
    number = redis.call('HLEN', KEYS[19]) + 1
    redis.call('HSET', KEYS[19], number, change.account)
    redis.call('HSET', ACCOUNT, 'number', number)
  end
  for i, row in ipairs(change.known) do
    local bucket, digest, mark = unpack(row)
    redis.call('HSET', KEYS[20 + i], digest .. number, mark)
    redis.call('SETBIT', KEYS[20], bucket, 1)
  end
end

for _, note in ipairs(change.notes) do
  if note[2] == '' then
    redis.call('HDEL', NOTES, note[1])
  else
    redis.call('HSET', NOTES, note[1], note[2])
  end
end
if #change.notes > 0 then
  if redis.call('EXISTS', NOTES) == 1 then
    redis.call('ZADD', NOTED, 0, change.account)
  else
    redis.call('ZREM', NOTED, change.account)
  end
end

-- entries may have been queued since the change was decided, so that is asked here
local numbers = redis.call('HMGET', ACCOUNT, 'seq.o', 'taken.o', 'seq.i', 'taken.i')
local due = change.busy == 'yes' or tonumber(numbers[1] or 0) > tonumber(numbers[2] or 0)
  or tonumber(numbers[3] or 0) > tonumber(numbers[4] or 0)
if not due then
  redis.call('ZREM', DUE, change.account)
else
  redis.call('ZADD', DUE, 0, change.account)
  if owner and owner ~= '' and token ~= change.asker then
    redis.call('ZADD', RINGS, redis.call('HINCRBY', LEASE, 'rings', 1), change.account)
    redis.call('PUBLISH', change.channel, owner)
  end
end
return 1
