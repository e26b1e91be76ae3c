-- Count one worker among those that share the store, by the server's clock.
--
-- KEYS  workers, sharing
-- ARGV  worker, milliseconds after which it is not counted any more, channel of hints, 'here' or 'leaving'
-- Answers 1 if what has expired may be taken from others, else 0; then all workers counted, in order of ids
--
-- After an outage of the store nobody could renew: then nothing is taken from others until all had the time to.

local workers, sharing = unpack(KEYS)
local worker, lasts_ms, channel, what = unpack(ARGV)

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
lasts_ms = tonumber(lasts_ms)

local latest, quiet_till = unpack(redis.call('HMGET', sharing, 'latest', 'quiet_till'))
latest, quiet_till = tonumber(latest or now), tonumber(quiet_till or 0)
if now - latest > lasts_ms / 2 or now < latest then
  quiet_till = now + lasts_ms
end
redis.call('HSET', sharing, 'latest', now, 'quiet_till', quiet_till)

if what == 'leaving' then
  redis.call('ZREM', workers, worker)
elseif redis.call('ZADD', workers, now + lasts_ms, worker) == 1 then
  redis.call('PUBLISH', channel, '*')
end
redis.call('ZREMRANGEBYSCORE', workers, '-inf', '(' .. now)
for _, other in ipairs(redis.call('ZRANGEBYSCORE', workers, '(' .. (now + lasts_ms), '+inf')) do
  -- no clock may keep a worker alive that does not ask
  redis.call('ZADD', workers, now + lasts_ms, other)
end

local counted = redis.call('ZRANGE', workers, 0, -1)
table.sort(counted)
table.insert(counted, 1, now >= quiet_till and 1 or 0)
return counted
