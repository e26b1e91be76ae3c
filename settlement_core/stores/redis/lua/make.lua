-- Begin to make a store, or go on with what was begun.
--
-- KEYS  settings
-- ARGV  an identity unlike any other, number of partitions

redis.call('HSETNX', KEYS[1], 'partitions', ARGV[2])
redis.call('HSETNX', KEYS[1], 'identity', ARGV[1])
redis.call('HSETNX', KEYS[1], 'generation', 1)
-- whoever goes on with what was begun waits for it to be safe
redis.call('HSET', KEYS[1], 'partitions', redis.call('HGET', KEYS[1], 'partitions'))
return 1
