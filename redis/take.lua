-- Takes tokens of a client's minute, or tells for how long there are too few.
--
-- KEYS: the window. ARGV: how many, and the limit.

local amount, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local total = advance(KEYS[1], KEYS[2])
local ms = wait(KEYS[1], KEYS[2], total, amount, limit)
if ms > 0 then return { 0, total, ms } end
return { use(KEYS[1], KEYS[2], amount), total + amount, 0 }
