-- Lets a request of a client in, or tells how many are under way, or for how long
-- there is no room in the minute.
--
-- KEYS: requests under way, by gateway ("number lease's-end order"); the window.
-- ARGV: the gateway, its lease, how many it has under way, the order of that, and
-- the client's limits, 0 for none.

local me, lease, mine, order = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local concurrency, per_minute = tonumber(ARGV[5]), tonumber(ARGV[6])

local function put(n)
	local row = redis.call('HGET', KEYS[1], me)
	local old = row and tonumber(string.match(row, '^%d+ %d+ (%d+)$'))
	if old and old >= order then return end
	redis.call('HSET', KEYS[1], me, string.format('%d %d %d', n, now + lease, order))
	redis.call('PEXPIRE', KEYS[1], 10 * lease)
end

if concurrency > 0 then
	local busy, rows = mine, redis.call('HGETALL', KEYS[1])
	for i = 1, #rows, 2 do
		local n, till = string.match(rows[i + 1], '^(%d+) (%d+) %d+$')
		if not n or tonumber(till) <= now then
			redis.call('HDEL', KEYS[1], rows[i])
		elseif rows[i] ~= me then
			busy = busy + tonumber(n)
		end
	end
	if busy >= concurrency then
		put(mine)
		return { busy, 0 }
	end
end
if per_minute > 0 then
	local ms = wait(KEYS[2], KEYS[3], advance(KEYS[2], KEYS[3]), 1, per_minute)
	if ms > 0 then
		put(mine)
		return { 0, ms }
	end
	use(KEYS[2], KEYS[3], 1)
end
put(mine + 1)
return { 0, 0 }
