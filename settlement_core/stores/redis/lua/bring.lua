-- Bring attempts of one account that comes from another store, in the order of their claims.
--
-- KEYS  attempts, claims (of the account); history, unclosed, prunable (of the partition)
-- ARGV  account id, then five for each attempt: id, its row without numbers of entries, when it was claimed,
--       'yes' if it is not closed, and when it was last used if it may be forgotten one day, else ''
-- The numbers of the first and last entry of an attempt that has any are in its place already.

local attempts, claims, history, unclosed, prunable = unpack(KEYS)
local account = ARGV[1]

-- no two claims of a partition have the same score, or a page of them could begin in the middle
local latest = tonumber(redis.call('ZREVRANGE', claims, 0, 0, 'WITHSCORES')[2] or '-inf')
for i = 2, #ARGV, 5 do
  local id, row, at, live, used_at = unpack(ARGV, i, i + 4)
  local member = id .. '\n' .. account
  local score = math.max(tonumber(at), latest + 0.000001)
  while #redis.call('ZRANGEBYSCORE', history, string.format('%.17g', score), string.format('%.17g', score), 'LIMIT', 0, 1) > 0 do
    score = score + 0.000001
  end
  latest = score
  local text = string.format('%.17g', score)
  redis.call('HSET', attempts, id, (redis.call('HGET', attempts, id) or '0 0') .. ' ' .. row)
  redis.call('ZADD', claims, text, id)
  redis.call('ZADD', history, text, member)
  if live == 'yes' then
    redis.call('ZADD', unclosed, text, member)
  end
  if used_at ~= '' then
    redis.call('ZADD', prunable, used_at, member)
  end
end
