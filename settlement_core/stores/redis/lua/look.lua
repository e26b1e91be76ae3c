-- Read what decisions about one account depend on, at one instant.
--
-- KEYS  account, entries of o, entries of i, attempts, notes, lease
-- ARGV  for o and i each: how many of the oldest queued entries to read,
--       number of attempts named, their ids, then keys of notes
-- Answers state, version, steps, lease token, pausing; for o and i each: sums and attempts (the lane's document), last entry
--       number, last one taken, last one counted, queued entries from the oldest on, entries that are neither
--       counted nor among those; then a list of id and row of the attempts named, open or released, then the values
--       of the notes

local account, attempts, notes, lease = KEYS[1], KEYS[4], KEYS[5], KEYS[6]

-- unpack and a single command take a bounded number of arguments
local CHUNK = 1000

local function read_range(key, first, last)
  local rows = {}
  for start = first, last, CHUNK do
    local numbers = {}
    for number = start, math.min(start + CHUNK - 1, last) do
      numbers[#numbers + 1] = number
    end
    for _, row in ipairs(redis.call('HMGET', key, unpack(numbers))) do
      rows[#rows + 1] = row
    end
  end
  return rows
end

local facts = redis.call('HMGET', account, 'state', 'version', 'steps', 'live',
  'lane.o', 'seq.o', 'taken.o', 'counted.o', 'lane.i', 'seq.i', 'taken.i', 'counted.i', 'pausing')
local answer = {facts[1], facts[2], facts[3], redis.call('HGET', lease, 'token'), facts[13]}

for i = 1, 2 do
  local start = 4 * i
  local last, taken, counted =
    tonumber(facts[start + 2] or 0), tonumber(facts[start + 3] or 0), tonumber(facts[start + 4] or 0)
  local entries = KEYS[1 + i]
  local head = math.min(last, taken + tonumber(ARGV[i]))
  answer[#answer + 1] = facts[start + 1]
  answer[#answer + 1] = last
  answer[#answer + 1] = taken
  answer[#answer + 1] = counted
  answer[#answer + 1] = read_range(entries, taken + 1, head)
  answer[#answer + 1] = read_range(entries, math.max(counted, head) + 1, last)
end

local wanted = {}
for i = 4, 3 + tonumber(ARGV[3]) do
  wanted[ARGV[i]] = true
end
if facts[4] and facts[4] ~= '[]' then
  for _, id in ipairs(cjson.decode(facts[4])) do
    wanted[id] = true
  end
end
local known = {}
for id in pairs(wanted) do
  local row = redis.call('HGET', attempts, id)
  if row then
    known[#known + 1] = id
    known[#known + 1] = row
  end
end
answer[#answer + 1] = known

local values = {}
for i = 4 + tonumber(ARGV[3]), #ARGV do
  values[#values + 1] = redis.call('HGET', notes, ARGV[i])
end
answer[#answer + 1] = values
return answer
