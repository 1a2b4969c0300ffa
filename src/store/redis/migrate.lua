-- Moves amounts from keys of the old layout to a family's key, all of them at once. KEYS: the family's key,
-- its writers' key, then keys of the old layout. ARGV: expiry in seconds (0: never), unix time, then triples:
-- the number of an old key (3 and up), field ("" for a string), amount to take; or "give", field, amount.
--
-- The amounts were read before this call. What other programs have added since then stays in the old keys,
-- for the next migration.

local target, writers, expiry = KEYS[1], KEYS[2], ARGV[1]

local function write(value)
  if value == 0 then return '0' end
  local text
  for digits = 15, 17 do
    text = string.format('%.' .. digits .. 'g', value)
    if tonumber(text) == value then break end
  end
  return text
end

local function get(key, field)
  local text = field == '' and redis.call('GET', key) or field ~= '' and redis.call('HGET', key, field)
  return text and (tonumber(text) or 0)
end

local function renew(name)
  if expiry == '0' then return redis.call('PERSIST', name) end
  return redis.call('EXPIRE', name, expiry)
end

local kind = redis.call('TYPE', target).ok
if kind ~= 'none' and kind ~= 'hash' then return redis.error_reply('FOREIGN it is a ' .. kind) end
if redis.call('HEXISTS', writers, 'epoch') == 0 then
  local time = redis.pcall('TIME')
  redis.call('HSET', writers, 'epoch', 'migrated-' .. (time[1] and time[1] .. '.' .. time[2] or ARGV[2]))
end
for index = 3, #ARGV, 3 do
  local from, field, amount = ARGV[index], ARGV[index + 1], tonumber(ARGV[index + 2])
  if from == 'give' then
    redis.call('HSET', target, field, write((get(target, field) or 0) + amount))
  else
    -- The field stays, even at 0, because it shows that the old program has this bucket. The key expires.
    local key = KEYS[tonumber(from)]
    local left = write((get(key, field) or 0) - amount)
    if field == '' then
      redis.call('SET', key, left, 'KEEPTTL')
    elseif key == target then
      redis.call('HDEL', key, field)
    else
      redis.call('HSET', key, field, left)
    end
  end
end
renew(writers)
renew(target)
return 1
