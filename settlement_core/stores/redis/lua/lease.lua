-- One worker's part in one partition, by the server's clock.
--
-- KEYS  lease, rings
-- ARGV  worker, milliseconds a lease lasts, number of the last ring heard, channel of hints,
--       what to do: renew (only what is held already), take (also what is free), seize (also what has expired), free
-- Answers the token if the worker holds the lease now, else '', then whose it is ('' if free), the milliseconds left,
--       and, if it is held, the numbers of the rings and what they say

local lease, rings = unpack(KEYS)
local worker, lasts_ms, heard, channel, what = unpack(ARGV)

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local owner, token, till, given_ms = unpack(redis.call('HMGET', lease, 'owner', 'token', 'till', 'lasts'))
owner, token, till = owner or '', token or '', tonumber(till or 0)
lasts_ms = tonumber(lasts_ms)
given_ms = tonumber(given_ms or lasts_ms)

-- no lease runs longer than it was given for, whatever the clock did, also after a failover to another clock
if till > now + given_ms then
  till = now + given_ms
  redis.call('HSET', lease, 'till', till)
end

if what == 'free' then
  if owner == worker then
    redis.call('HSET', lease, 'owner', '', 'token', '', 'till', 0)
    redis.call('PUBLISH', channel, '*')
    owner, token, till = '', '', 0
  end
elseif owner == worker then
  till = now + lasts_ms
  redis.call('HSET', lease, 'till', till, 'lasts', lasts_ms)
elseif (what ~= 'renew' and owner == '') or (what == 'seize' and till <= now) then
  -- the time makes a token unlike any other, even if a failover forgot how often the lease was taken
  token = redis.call('HINCRBY', lease, 'number', 1) .. ':' .. worker .. ':' .. now
  owner, till = worker, now + lasts_ms
  redis.call('HSET', lease, 'owner', owner, 'token', token, 'till', till, 'lasts', lasts_ms)
end

if owner ~= worker then
  return {'', owner, till - now}
end
if tonumber(heard) > tonumber(redis.call('HGET', lease, 'rings') or 0) then
  -- a failover lost the latest numbers: rings since then have numbers that were heard before, and are told once more
  redis.call('HSET', lease, 'rings', heard)
else
  redis.call('ZREMRANGEBYSCORE', rings, '-inf', heard)
end
local answer = {token, owner, till - now}
for _, value in ipairs(redis.call('ZRANGE', rings, 0, 999, 'WITHSCORES')) do
  answer[#answer + 1] = value
end
return answer
