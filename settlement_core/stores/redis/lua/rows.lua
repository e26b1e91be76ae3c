-- Read pages of one account's rows, at one instant.
--
-- KEYS  account, then for o and i each: entries, keys, took; then attempts, claims, notes, lease
-- ARGV  for o and i each: number after which entries are wanted, and how many;
--       then id of the attempt after which attempts are wanted ('' for the first), and how many
-- Answers what look.lua does, without attempts and notes; for o and i each a list of number, row, attempt id ('' if
--       queued) and row of the key ('' if none); and a list of attempt ids and rows

local ACCOUNT, ATTEMPTS, CLAIMS = KEYS[1], KEYS[8], KEYS[9]
local LANES = {
  {letter = 'o', entries = KEYS[2], keys = KEYS[3], took = KEYS[4], after = tonumber(ARGV[1]), limit = tonumber(ARGV[2])},
  {letter = 'i', entries = KEYS[5], keys = KEYS[6], took = KEYS[7], after = tonumber(ARGV[3]), limit = tonumber(ARGV[4])},
}

local function read_entry(lane, seq, attempt_id)
  local row = redis.call('HGET', lane.entries, seq)
  local content = cjson.decode(row)
  local key = content[1] == 'request' and redis.call('HGET', lane.keys, content[2])
  lane[#lane + 1] = seq
  lane[#lane + 1] = row
  lane[#lane + 1] = attempt_id
  lane[#lane + 1] = key or ''
  lane.found = lane.found + 1
end

local facts = redis.call('HMGET', ACCOUNT, 'state', 'version', 'steps', 'pausing')
local answer = {facts[1], facts[2], facts[3], redis.call('HGET', KEYS[11], 'token'), facts[4]}

for _, lane in ipairs(LANES) do
  local numbers = redis.call('HMGET', ACCOUNT,
    'lane.' .. lane.letter, 'seq.' .. lane.letter, 'taken.' .. lane.letter, 'counted.' .. lane.letter)
  local last, taken, counted = tonumber(numbers[2] or 0), tonumber(numbers[3] or 0), tonumber(numbers[4] or 0)
  local uncounted = {}
  for seq = counted + 1, last do
    uncounted[#uncounted + 1] = redis.call('HGET', lane.entries, seq)
  end
  answer[#answer + 1] = numbers[1]
  answer[#answer + 1] = last
  answer[#answer + 1] = taken
  answer[#answer + 1] = counted
  answer[#answer + 1] = {}
  answer[#answer + 1] = uncounted

  lane.found = 0
  local took = {}
  if lane.limit > 0 then
    took = redis.call('ZRANGEBYSCORE', lane.took, '(' .. lane.after, '+inf', 'LIMIT', 0, lane.limit)
  end
  for _, attempt_id in ipairs(took) do
    local first, final = string.match(redis.call('HGET', ATTEMPTS, attempt_id), '^(%d+) (%d+) ')
    for seq = math.max(tonumber(first), lane.after + 1), tonumber(final) do
      if lane.found < lane.limit then
        read_entry(lane, seq, attempt_id)
      end
    end
  end
  for seq = math.max(taken, lane.after) + 1, last do
    if lane.found >= lane.limit then
      break
    end
    read_entry(lane, seq, '')
  end
end

local attempts = {}
local start = '-inf'
if ARGV[5] ~= '' then
  local score = redis.call('ZSCORE', CLAIMS, ARGV[5])
  start = score and '(' .. score
end
if start and tonumber(ARGV[6]) > 0 then
  for _, attempt_id in ipairs(redis.call('ZRANGEBYSCORE', CLAIMS, start, '+inf', 'LIMIT', 0, ARGV[6])) do
    attempts[#attempts + 1] = attempt_id
    attempts[#attempts + 1] = redis.call('HGET', ATTEMPTS, attempt_id)
  end
end

for i = 1, 2 do
  local page = {}
  for place, value in ipairs(LANES[i]) do
    page[place] = value
  end
  answer[#answer + 1] = page
end
answer[#answer + 1] = attempts
return answer
