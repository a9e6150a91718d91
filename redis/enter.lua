-- Lets requests of a client in, and tells those that it does not how many are under
-- way, or for how long there is no room in the minute.
--
-- KEYS: requests under way, by gateway ("number lease's-end order"); the window;
-- gateways, and whether they have just begun anew.
-- ARGV: the gateway, its lease, how many it has under way, the order of that, the
-- client's limits, 0 for none, how many ask, and how many gateways it knows of.

local me, lease, mine, order = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local concurrency, per_minute = tonumber(ARGV[5]), tonumber(ARGV[6])
local asked, gateways = tonumber(ARGV[7]), tonumber(ARGV[8])

local function put(n)
	local row = redis.call('HGET', KEYS[1], me)
	local old = row and tonumber(string.match(row, '^%d+ %d+ (%d+)$'))
	if old and old >= order then return end
	redis.call('HSET', KEYS[1], me, string.format('%d %d %d', n, now + lease, order))
	redis.call('PEXPIRE', KEYS[1], 10 * lease)
end

local let_in, busy, ms = asked, 0, 0
if concurrency > 0 then
	busy = mine
	local rows = redis.call('HGETALL', KEYS[1])
	for i = 1, #rows, 2 do
		local n, till = string.match(rows[i + 1], '^(%d+) (%d+) %d+$')
		if not n or tonumber(till) <= now then
			redis.call('HDEL', KEYS[1], rows[i])
		elseif rows[i] ~= me then
			busy = busy + tonumber(n)
		end
	end
	let_in = math.min(let_in, concurrency - busy)
	-- Where all was lost, others may have more under way than is known here.
	local there = redis.call('ZCARD', KEYS[4])
	if there == 0 or redis.call('EXISTS', KEYS[5]) == 1 then
		let_in = math.min(let_in, math.max(1, math.floor(concurrency / math.max(gateways, there))) - mine)
	end
	let_in = math.max(0, let_in)
	if let_in < asked then busy = math.max(1, busy + let_in) end
end
if per_minute > 0 then
	local total = advance(KEYS[2], KEYS[3])
	local room = math.max(0, math.min(let_in, per_minute - total))
	if room > 0 then use(KEYS[2], KEYS[3], room) end
	if room < let_in then ms = wait(KEYS[2], KEYS[3], total + room, 1, per_minute) end
	let_in = room
end
put(mine + let_in)
if ms > 0 then busy = 0 end
return { let_in, busy, ms }
