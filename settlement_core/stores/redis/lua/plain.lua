-- Carry out a single command.
--
-- KEYS  the command's keys
-- ARGV  its name, and what follows its keys: some thousand at most
-- Answers what it answers

return redis.call(ARGV[1], unpack(KEYS), unpack(ARGV, 2))
