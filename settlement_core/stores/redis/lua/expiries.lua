-- Say which workers share the store.
--
-- KEYS  workers
-- Answers worker ids, each with the milliseconds until it is not counted any more

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local answer = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 2, #answer, 2 do
  answer[i] = tonumber(answer[i]) - now
end
return answer
