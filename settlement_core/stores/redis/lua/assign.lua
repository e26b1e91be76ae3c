-- Move money without an owner between unassigned, being assigned, assigned and dismissed, if its row is as it was.
--
-- KEYS  suspense, unassigned, assigning
-- ARGV  settlement id, the row it must have, the row it gets,
--       what it is from now on: unassigned, assigning, assigned or dismissed
-- Answers 1, or 0 if the row is another and nothing was changed

local id, before, now, what = unpack(ARGV)
if redis.call('HGET', KEYS[1], id) ~= before then
  return 0
end
redis.call('HSET', KEYS[1], id, now)
if what == 'assigning' then
  redis.call('ZADD', KEYS[3], 0, id)
else
  redis.call('ZREM', KEYS[3], id)
end
if what == 'unassigned' then
  redis.call('ZADD', KEYS[2], 0, id)
else
  redis.call('ZREM', KEYS[2], id)
end
return 1
