-- Takes in what a gateway has counted, once: a batch that comes again, because
-- nobody knows whether it came, changes nothing.
--
-- KEYS: gateways (by the end of their leases), whether they have just begun anew,
-- this one's last batch, what was spent in the month by client; then for each count the requests under way, and
-- for each correction the window.
-- ARGV: the batch as JSON.

local batch = cjson.decode(ARGV[1])
local me, lease = batch.me, batch.lease

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if batch.leave then
	redis.call('ZREM', KEYS[1], me)
else
	if redis.call('ZCARD', KEYS[1]) == 0 then -- each tells of itself ten times a lease
		redis.call('SET', KEYS[2], 1, 'PX', math.max(1, math.floor(lease / 5)))
	end
	redis.call('ZADD', KEYS[1], now + lease, me)
	redis.call('PEXPIRE', KEYS[1], 10 * lease)
end

local next_key = 5
for _, count in ipairs(batch.counts or {}) do
	local key = KEYS[next_key]
	next_key = next_key + 1
	local row = redis.call('HGET', key, me)
	local old = row and tonumber(string.match(row, '^%d+ %d+ (%d+)$'))
	if not old or old < count.order then
		if count.n == 0 then
			redis.call('HDEL', key, me)
		else
			redis.call('HSET', key, me, string.format('%d %d %d', count.n, now + lease, count.order))
			redis.call('PEXPIRE', key, 10 * lease)
		end
	end
end

local fresh = batch.seq > number(redis.call('GET', KEYS[3]))
local totals = {}
for _, s in ipairs(batch.spends or {}) do
	local total = math.max(number(redis.call('HGET', KEYS[4], s.client)), s.floor)
	if fresh then total = total + s.add end
	redis.call('HSET', KEYS[4], s.client, string.format('%.0f', total))
	totals[#totals + 1] = s.client
	totals[#totals + 1] = string.format('%.0f', total)
end
if #totals > 0 then redis.call('PEXPIRE', KEYS[4], 3456000000) end
if fresh then
	redis.call('SET', KEYS[3], batch.seq, 'PX', 86400000)
	for _, c in ipairs(batch.corrections or {}) do
		local times, amounts = KEYS[next_key], KEYS[next_key + 1]
		next_key = next_key + 2
		if c.more < 0 then
			give_back(times, amounts, c.at, -c.more)
		else
			advance(times, amounts)
			use(times, amounts, c.more)
		end
	end
end
return { redis.call('ZCARD', KEYS[1]), totals }
