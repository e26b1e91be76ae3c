-- Before every script: refuse to read or write another store than the one its caller opened.
--
-- KEYS  …, and at the end the key of the mark that has the hash tag of all others
-- ARGV  …, and at the end the mark that the caller knows, and AHEAD
-- AHEAD is how many milliseconds this server's clock is ahead of the caller's, at least

local MARK_KEY = table.remove(KEYS)
local AHEAD, MARK = table.remove(ARGV), table.remove(ARGV)
do
  local found = redis.call('GET', MARK_KEY)
  if MARK == '' or found ~= MARK then
    return redis.error_reply('FOREIGNSTORE ' .. (found or ''))
  end
end

