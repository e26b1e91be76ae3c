-- Begin a new generation of the store, for the asker alone. The marks of partitions follow, by mark.lua.
--
-- KEYS  settings, mark
-- ARGV  identity, the asker's generation, the asker, the format that the store is of from now on ('' for the same)
-- Answers 1, also if the asker has done so before

local identity, generation, asker, format = unpack(ARGV)
local following = string.format('%d', tonumber(generation) + 1)
local found = redis.call('GET', KEYS[2])
local repeated = found == identity .. ':' .. following and redis.call('HGET', KEYS[1], 'fenced_by') == asker
if not repeated and found ~= identity .. ':' .. generation then
  return redis.error_reply('FOREIGNSTORE ' .. (found or ''))
end
-- also if it was done before: whoever asks again waits for it to be safe
redis.call('HSET', KEYS[1], 'generation', following, 'fenced_by', asker)
if format ~= '' then
  redis.call('HSET', KEYS[1], 'format', format)
end
redis.call('SET', KEYS[2], identity .. ':' .. following)
return 1
