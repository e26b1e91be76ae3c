-- Say which buckets of a partition hold any settlement ids.
--
-- KEYS  bits, one for each bucket
-- Answers the numbers of those that were ever written to

local bits = redis.call('GET', KEYS[1]) or ''
local answer = {}
for i = 1, #bits do
  local byte = string.byte(bits, i)
  for bit = 0, 7 do
    if math.floor(byte / 2 ^ (7 - bit)) % 2 == 1 then
      answer[#answer + 1] = 8 * (i - 1) + bit
    end
  end
end
return answer
