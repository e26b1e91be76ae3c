-- Look at a mark, and bring it up to date.
--
-- KEYS  mark
-- ARGV  identity, generation, what to do: look, raise (an older generation of this identity), make (also a missing one)
-- Answers the mark that is there now, '' if there is none

local identity, generation, what = unpack(ARGV)
local wanted = identity .. ':' .. generation
local found = redis.call('GET', KEYS[1])
if not found and what ~= 'make' then
  return ''
end
if found then
  local whose, which = string.match(found, '^(.*):(%d+)$')
  if what == 'look' or whose ~= identity or tonumber(which) > tonumber(generation) then
    return found
  end
end
-- also if it is that already: whoever asks again waits for it to be safe
redis.call('SET', KEYS[1], wanted)
return wanted
