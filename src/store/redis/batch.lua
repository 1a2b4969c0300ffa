-- Applies a batch once. KEYS: the family's key, its writers' key. ARGV: writer, batch number, expiry in
-- seconds, "hash" or "string", unix time, writer retention in seconds, writers before a sweep; then
-- triples of operation, field, value.
--
-- Returns {1, replaced...} for a batch that was applied and {0} for one that had been applied before;
-- `replaced` are fields whose value was no number. If the key is of another type, the first command
-- fails, and nothing has been changed.

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

local result = {1}
for index = 8, #ARGV, 3 do
  local operation, field, value = ARGV[index], ARGV[index + 1], ARGV[index + 2]
  if operation == 'add' then
    local current
    if is_hash then current = redis.call('HGET', key, field) else current = redis.call('GET', key) end
    local base = 0
    if current then
      base = read(current)
      if not base then
        base = 0
        result[#result + 1] = field
      end
    end
    value = write(base + read(value))
    if is_hash then redis.call('HSET', key, field, value) else redis.call('SET', key, value) end
  elseif operation == 'set' then
    value = write(read(value))
    -- SET would replace a key of another type.
    if is_hash then redis.call('HSET', key, field, value)
    else redis.call('GETSET', key, value) end
  elseif is_hash then
    if operation == 'delete' then redis.call('HDEL', key, field)
    else redis.call('HLEN', key); redis.call('DEL', key) end
  else
    redis.call('STRLEN', key)
    redis.call('DEL', key)
  end
end
redis.call('EXPIRE', key, expiry)

-- Entries of processes that died: each new writer looks at a few others, so that the work is bounded.
if not seen and redis.call('HLEN', writers) >= tonumber(ARGV[7]) then
  local entries = redis.pcall('HRANDFIELD', writers, 32, 'WITHVALUES')
  if entries.err then -- before Redis 6.2
    entries = redis.call('HSCAN', writers, 0, 'COUNT', 32)[2]
  end
  for index = 1, #entries, 2 do
    local last = tonumber(string.match(entries[index + 1], '(%d+)$'))
    if not last or last + tonumber(ARGV[6]) < tonumber(ARGV[5]) then redis.call('HDEL', writers, entries[index]) end
  end
end
redis.call('HSET', writers, writer, ARGV[2] .. ' ' .. ARGV[5])
redis.call('EXPIRE', writers, expiry)
return result
