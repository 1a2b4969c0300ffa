-- Applies a batch once, in the epoch that it was made for. KEYS: the family's key, its writers' key. ARGV:
-- writer, batch number, expiry in seconds, "hash" or "string", unix time, writer retention in seconds,
-- writers before a sweep, epoch; then triples of operation, field, value.
--
-- Returns {0} for a batch that had been applied before, and {1, remarks...} for one that was applied now: a
-- remark is a field whose value was no number and was replaced, or a change that was refused. {2, epoch} says
-- that the family's epoch is another one, which begins now if there was none: nothing was applied. What the
-- writer knows of the other epoch, the server has lost.
--
-- Redis takes nothing back when a script fails, so whatever can be refused is tried before the first change:
-- then the error is returned, and nothing has been changed. After it nothing may fail: the batch is recorded
-- as applied, whatever comes.

local key, writers = KEYS[1], KEYS[2]
local writer, number, expiry = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local is_hash = ARGV[4] == 'hash'
local FIRST = 9
local INFINITY = 1 / 0

-- Arithmetic is done here, in doubles, and not by HINCRBYFLOAT: that refuses infinities, and keeps no
-- more than 17 decimals.
local function read(text)
  local lower = string.lower(text)
  if lower == 'inf' or lower == '+inf' then return INFINITY end
  if lower == '-inf' then return -INFINITY end
  if lower == 'nan' or lower == '-nan' then return 0 / 0 end
  return tonumber(text)
end

-- What is there, but has no value yet: a 0 that a gauge was set to, or came back to, is spelled otherwise.
local UNTOUCHED = '0'

local function write(value)
  if value ~= value then return 'nan' end
  if value == INFINITY then return 'inf' end
  if value == -INFINITY then return '-inf' end
  if value == 0 then return 1 / value > 0 and '0.0' or '-0.0' end
  local text
  for digits = 15, 17 do
    text = string.format('%.' .. digits .. 'g', value)
    if tonumber(text) == value then break end
  end
  return text
end

local function length()
  if is_hash then return redis.pcall('HLEN', key) end
  return redis.pcall('STRLEN', key)
end

local entries = redis.pcall('HMGET', writers, 'epoch', writer)
if entries.err then -- of another type
  return redis.error_reply('WRITERS ' .. entries.err)
end
local epoch, seen = entries[1], entries[2]
if not epoch or epoch ~= ARGV[8] then
  if not epoch then
    -- An id that nobody has seen: no other writer has this name, and if this very batch began another epoch
    -- before a loss, that was at another time.
    local time = redis.pcall('TIME')
    epoch = writer .. '-' .. ARGV[2] .. '-' .. (time[1] and time[1] .. '.' .. time[2] or ARGV[5])
    -- Where values are left, only the writers' key is gone: nothing may be added to them a second time.
    if length() ~= 0 then epoch = epoch .. '+' end
    redis.call('HSET', writers, 'epoch', epoch)
    redis.call('EXPIRE', writers, expiry)
  end
  return {2, epoch}
end
-- The question alone: is it still this epoch?
if not ARGV[FIRST] then return {1} end

if seen and number <= tonumber(string.match(seen, '^%d+')) then
  return {0}
end

if not seen then
  -- The first batch of a writer finds out whether the books can be kept at all.
  redis.call('HSET', writers, writer, '0 ' .. ARGV[5])
end
redis.call('EXPIRE', writers, expiry)

-- One change. Errors are returned, not raised.
local result = {1}
local function change(operation, field, value)
  local current
  if operation == 'add' or operation == 'restore' then
    if is_hash then current = redis.pcall('HGET', key, field) else current = redis.pcall('GET', key) end
    if type(current) == 'table' then return current end
  end
  if operation == 'add' then
    local base, amount = current and read(current), read(value)
    if base and amount == 0 then return true end
    if current and not base then
      result[#result + 1] = field .. ': the value was no number, and was replaced'
    end
    value = (base or amount ~= 0) and write((base or 0) + amount) or UNTOUCHED
    if is_hash then return redis.pcall('HSET', key, field, value) end
    return redis.pcall('SET', key, value)
  end
  if operation == 'restore' then
    -- What one writer remembers, and when it last changed that. It stands unless somebody has counted since
    -- the loss; of what several remember, the latest.
    local remembered, at = string.match(value, '^(%S+) (%d+)$')
    value = remembered
    local mark = 'restored ' .. field
    local text, before = string.match(redis.call('HGET', writers, mark) or '', '^(%S+) (%d+) %d+$')
    local is_older = text == current and tonumber(before) < tonumber(at)
    if current and current ~= UNTOUCHED and not is_older then return true end
    redis.call('HSET', writers, mark, write(read(value)) .. ' ' .. at .. ' ' .. ARGV[5])
  end
  if operation == 'set' or operation == 'restore' then
    value = write(read(value))
    -- SET would replace a key of another type.
    if is_hash then return redis.pcall('HSET', key, field, value) end
    return redis.pcall('GETSET', key, value)
  end
  if is_hash and operation == 'delete' then return redis.pcall('HDEL', key, field) end
  -- DEL would delete a key of another type.
  local reply = length()
  if type(reply) == 'table' then return reply end
  return redis.pcall('DEL', key)
end

for index = FIRST, #ARGV, 3 do
  local reply = change(ARGV[index], ARGV[index + 1], ARGV[index + 2])
  if type(reply) == 'table' and reply.err then
    if index == FIRST then return redis.error_reply(reply.err) end
    result[#result + 1] = ARGV[index + 1] .. ': ' .. ARGV[index] .. ' was refused: ' .. reply.err
  end
end
redis.call('HSET', writers, writer, ARGV[2] .. ' ' .. ARGV[5])
redis.pcall('EXPIRE', key, expiry)

-- Entries of processes that died: each new writer looks at a few others, so that the work is bounded.
local count = not seen and redis.pcall('HLEN', writers)
if type(count) == 'number' and count >= tonumber(ARGV[7]) then
  local some = redis.pcall('HRANDFIELD', writers, 32, 'WITHVALUES')
  if some.err then -- before Redis 6.2, or not allowed
    some = redis.pcall('HSCAN', writers, 0, 'COUNT', 32)[2] or {}
  end
  for index = 1, #some, 2 do
    local last = tonumber(string.match(some[index + 1], '(%d+)$'))
    local is_old = not last or last + tonumber(ARGV[6]) < tonumber(ARGV[5])
    if is_old and some[index] ~= 'epoch' then redis.pcall('HDEL', writers, some[index]) end
  end
end
return result
