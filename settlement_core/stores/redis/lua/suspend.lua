-- Keep money without an owner, once.
--
-- KEYS  suspense, order, unassigned
-- ARGV  settlement id, row
-- Answers the row that was there before, or nil if this one is kept now

local known = redis.call('HGET', KEYS[1], ARGV[1])
if known then
  return known
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
redis.call('ZADD', KEYS[3], 0, ARGV[1])
return nil
