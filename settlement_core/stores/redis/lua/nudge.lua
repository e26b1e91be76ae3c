-- Ring the worker that holds a partition.
--
-- KEYS  lease, rings
-- ARGV  what to say, channel of hints
-- Answers 1, or 0 if nobody holds it

local owner = redis.call('HGET', KEYS[1], 'owner')
if not owner or owner == '' then
  return 0
end
redis.call('ZADD', KEYS[2], redis.call('HINCRBY', KEYS[1], 'rings', 1), ARGV[1])
redis.call('PUBLISH', ARGV[2], owner)
return 1
