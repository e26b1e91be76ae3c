-- Before every script: refuse to read or write another store than the one its caller opened.
--
-- KEYS  …, and at the end the key of the mark that has the hash tag of all others
-- ARGV  …, and at the end the mark that the caller knows, AHEAD, and 'touch' or ''
-- AHEAD is how many milliseconds this server's clock is ahead of the caller's, at least. To touch is to write the mark
-- as it is: WAIT and WAITAOF confirm what was written before the last write of the same connection, and a batch that
-- is repeated on another one may find nothing left to write.

local MARK_KEY = table.remove(KEYS)
local TOUCH, AHEAD, MARK = table.remove(ARGV), table.remove(ARGV), table.remove(ARGV)
do
  local found = redis.call('GET', MARK_KEY)
  if MARK == '' or found ~= MARK then
    return redis.error_reply('FOREIGNSTORE ' .. (found or ''))
  end
  if TOUCH == 'touch' then
    redis.call('SET', MARK_KEY, MARK)
  end
end

