-- Applies a batch once. KEYS: the family's key, its writers' key. ARGV: writer, batch number, expiry in
-- seconds, "hash" or "string", unix time, writer retention in seconds, writers before a sweep; then
-- triples of operation, field, value.
--
-- Returns {0} for a batch that had been applied before, and {1, remarks...} for one that was applied now: a
-- remark is a field whose value was no number and was replaced, or a change that was refused.
--
-- Redis takes nothing back when a script fails, so whatever can be refused is tried before the first change:
-- then the error is returned, and nothing has been changed. After it nothing may fail: the batch is recorded
-- as applied, whatever comes.

local key, writers = KEYS[1], KEYS[2]
local writer, number, expiry = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local is_hash = ARGV[4] == 'hash'
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

local function write(value)
  if value ~= value then return 'nan' end
  if value == INFINITY then return 'inf' end
  if value == -INFINITY then return '-inf' end
  local text
  for digits = 15, 17 do
    text = string.format('%.' .. digits .. 'g', value)
    if tonumber(text) == value then break end
  end
  return text
end

local seen = redis.pcall('HGET', writers, writer)
if type(seen) == 'table' then -- an error: of another type
  return redis.error_reply('WRITERS ' .. seen.err)
end
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
  if operation == 'add' then
    local current
    if is_hash then current = redis.pcall('HGET', key, field) else current = redis.pcall('GET', key) end
    if type(current) == 'table' then return current end
    local base = current and read(current) or 0
    if current and not read(current) then
      result[#result + 1] = field .. ': the value was no number, and was replaced'
    end
    value = write(base + read(value))
    if is_hash then return redis.pcall('HSET', key, field, value) end
    return redis.pcall('SET', key, value)
  end
  if operation == 'set' then
    value = write(read(value))
    -- SET would replace a key of another type.
    if is_hash then return redis.pcall('HSET', key, field, value) end
    return redis.pcall('GETSET', key, value)
  end
  if is_hash and operation == 'delete' then return redis.pcall('HDEL', key, field) end
  -- DEL would delete a key of another type.
  local length
  if is_hash then length = redis.pcall('HLEN', key) else length = redis.pcall('STRLEN', key) end
  if type(length) == 'table' then return length end
  return redis.pcall('DEL', key)
end

for index = 8, #ARGV, 3 do
  local reply = change(ARGV[index], ARGV[index + 1], ARGV[index + 2])
  if type(reply) == 'table' and reply.err then
    if index == 8 then return redis.error_reply(reply.err) end
    result[#result + 1] = ARGV[index + 1] .. ': ' .. ARGV[index] .. ' was refused: ' .. reply.err
  end
end
redis.call('HSET', writers, writer, ARGV[2] .. ' ' .. ARGV[5])
redis.pcall('EXPIRE', key, expiry)

-- Entries of processes that died: each new writer looks at a few others, so that the work is bounded.
local count = not seen and redis.pcall('HLEN', writers)
if type(count) == 'number' and count >= tonumber(ARGV[7]) then
  local entries = redis.pcall('HRANDFIELD', writers, 32, 'WITHVALUES')
  if entries.err then -- before Redis 6.2, or not allowed
    entries = redis.pcall('HSCAN', writers, 0, 'COUNT', 32)[2] or {}
  end
  for index = 1, #entries, 2 do
    local last = tonumber(string.match(entries[index + 1], '(%d+)$'))
    if not last or last + tonumber(ARGV[6]) < tonumber(ARGV[5]) then redis.pcall('HDEL', writers, entries[index]) end
  end
end
return result
