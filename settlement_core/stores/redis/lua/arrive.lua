-- Let an account be there whose rows were brought from another store.
--
-- KEYS  account; due, accounts (of the partition)
-- ARGV  account id, 'yes' if it is due, then fields of the account and their values

redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('ZADD', KEYS[3], 0, ARGV[1])
if ARGV[2] == 'yes' then
  redis.call('ZADD', KEYS[2], 0, ARGV[1])
end
