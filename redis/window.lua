-- A window of the last minute, whichever minute that is, counted by the
-- millisecond in favour of the limit, on Redis's own clock: a sorted set of the
-- times at which something was used, and a hash of how much it was at each, with
-- the sum as "total". Scripts begin with this.

local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now, up = math.floor(micros / 1000), math.ceil(micros / 1000)
local minute = 60000

local function number(text) return tonumber(text) or 0 end

-- advance forgets what is a minute old, and returns what was used since.
local function advance(times, amounts)
	local over = redis.call('ZRANGEBYSCORE', times, '-inf', now - minute)
	for _, at in ipairs(over) do
		redis.call('HINCRBY', amounts, 'total', -number(redis.call('HGET', amounts, at)))
		redis.call('HDEL', amounts, at)
	end
	if #over > 0 then redis.call('ZREMRANGEBYSCORE', times, '-inf', now - minute) end
	if redis.call('ZCARD', times) == 0 then
		redis.call('DEL', amounts)
		return 0
	end
	return math.max(0, number(redis.call('HGET', amounts, 'total')))
end

-- wait is for how many milliseconds amount does not fit below limit beside total.
-- More than the limit fits when there is nothing else.
local function wait(times, amounts, total, amount, limit)
	local left, till, from = total, now, 0
	while left + amount > limit do
		local page = redis.call('ZRANGE', times, from, from + 99)
		if #page == 0 then break end
		for _, at in ipairs(page) do
			if left + amount <= limit then break end
			left = left - number(redis.call('HGET', amounts, at))
			till = tonumber(at) + minute
		end
		from = from + 100
	end
	return till - now
end

-- use notes that amount is used, and returns the time by which it is found again.
local function use(times, amounts, amount)
	redis.call('HINCRBY', amounts, up, amount)
	redis.call('HINCRBY', amounts, 'total', amount)
	redis.call('ZADD', times, up, up)
	redis.call('PEXPIRE', times, minute + 1000)
	redis.call('PEXPIRE', amounts, minute + 1000)
	return up
end

-- give_back takes off what was not used after all.
local function give_back(times, amounts, at, amount)
	advance(times, amounts)
	amount = math.min(amount, number(redis.call('HGET', amounts, at)))
	if amount > 0 then
		redis.call('HINCRBY', amounts, at, -amount)
		redis.call('HINCRBY', amounts, 'total', -amount)
	end
end
