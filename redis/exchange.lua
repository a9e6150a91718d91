-- One replica's report, taken in at once. What it means is documented at
-- SharedReport and SharedView of package deepseek; MemoryState does the same.
--
-- KEYS: replicas (by the end of their leases), meta, facts, the facts' order, and
-- a hash for each slot of the report: its limit, and "r:NAME" for each replica.
-- ARGV: the report as JSON, an epoch should there be none, and for how long
-- things are kept that nobody uses, in milliseconds.
--
-- Whatever is found that is no number counts as not there.

local report = cjson.decode(ARGV[1])
local keep = tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local me, lease = report.replica, report.lease

local function number(text) return tonumber(text) or 0 end

-- Who is there.
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
	redis.call('ZREM', KEYS[1], name)
	redis.call('HDEL', KEYS[2], 'seq:' .. name)
end
if report.seq <= number(redis.call('HGET', KEYS[2], 'seq:' .. me)) then
	return redis.error_reply('LATE the report is older than one that was taken in')
end
if report.leave then
	redis.call('ZREM', KEYS[1], me)
	redis.call('HDEL', KEYS[2], 'seq:' .. me)
else
	redis.call('ZADD', KEYS[1], now + lease, me)
	redis.call('HSET', KEYS[2], 'seq:' .. me, report.seq)
end
redis.call('HSETNX', KEYS[2], 'epoch', ARGV[2])
local epoch = redis.call('HGET', KEYS[2], 'epoch')
local there = redis.call('ZCARD', KEYS[1])
local view = { epoch = epoch, replicas = math.max(1, there) }

-- What each slot is divided into.
local function slot(key, r)
	local hash = redis.call('HGETALL', key)
	local fields, rows, lost, rest = {}, {}, false, 0
	local free = 0
	for i = 1, #hash, 2 do
		local name = string.match(hash[i], '^r:(.*)$')
		if name then
			local held, want, peak, till = string.match(hash[i + 1], '^(%d+) (%d+) (%d+) (%d+)$')
			if not held or tonumber(till) <= now then
				redis.call('HDEL', key, hash[i])
				lost = true
			elseif name ~= me then
				rows[#rows + 1] = { name, tonumber(want), tonumber(peak) }
				free = free - tonumber(held)
				rest = rest + 1
			else
				rest = rest + 1
			end
		else
			fields[hash[i]] = number(hash[i + 1])
		end
	end
	local born = fields.born
	if not born or lost and rest == 0 then
		born = now
		redis.call('HSET', key, 'born', born)
	end
	local version, limit = fields.version or 0, fields.limit or 0
	local refused, told = fields.refused or 0, fields.told or 0
	if version < 1 or limit < 1 or r.learned and (r.version == version or r.limit < limit) then
		version, limit, refused, told = version + 1, r.limit, r.refused, r.told and 1 or 0
		redis.call('HSET', key, 'version', version, 'limit', limit, 'refused', refused, 'told', told)
	end
	free = free + limit
	local ask = r.ask
	if now < born + lease / 2 then
		ask = math.min(ask, math.max(r.held, math.floor(limit / math.max(report.replicas, there, 1))))
	end
	local share = math.min(ask, math.max(r.held, free))
	if r.held > 0 and not report.leave then
		local row = string.format('%d %d %d %d', math.max(r.held, share), r.want, r.peak, now + lease)
		redis.call('HSET', key, 'r:' .. me, row)
	else
		redis.call('HDEL', key, 'r:' .. me)
	end
	redis.call('PEXPIRE', key, keep)
	table.sort(rows, function(a, b) return a[1] < b[1] end)
	local answer = { share = share, version = version, limit = limit, refused = refused, told = told == 1 }
	if #rows > 0 then answer.others = rows end
	return answer
end

if report.slots then
	view.slots = {}
	for i, r in ipairs(report.slots) do view.slots[i] = slot(KEYS[4 + i], r) end
end

-- What is put aside, and what no longer is: 0, where somebody has said so.
if report.news then
	for _, fact in ipairs(report.news) do
		local till = fact.ms == 0 and 0 or now + fact.ms
		local old = redis.call('HGET', KEYS[3], fact.name)
		if fact.ms == 0 or not old or till > number(old) then
			redis.call('HSET', KEYS[3], fact.name, till)
			redis.call('ZADD', KEYS[4], redis.call('HINCRBY', KEYS[2], 'last', 1), fact.name)
		end
	end
end
local after = report.after
-- A server that went back in time, to a copy of its own, has given out fewer numbers.
if report.epoch ~= epoch or after > number(redis.call('HGET', KEYS[2], 'last')) then after = 0 end
local order = redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[4]))
view.at = after
if #order > 0 then
	local facts = {}
	for i = 1, #order, 2 do
		local till = number(redis.call('HGET', KEYS[3], order[i]))
		if till == 0 or till > now then
			facts[#facts + 1] = { name = order[i], ms = math.max(0, till - now) }
		end
		view.at = tonumber(order[i + 1])
	end
	if #facts > 0 then view.facts = facts end
end
for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], keep) end
return cjson.encode(view)
