-- REQUESTS, before this, holds {pattern of the path, message of the body} for every REST
-- method with a body. MESSAGES holds the fields of each message by name: the name of the
-- field's own message, or "" where it has none.

local DEEPEST = 32

local function skip_space(text, at)
  return string.find(text, "[^ \t\r\n]", at) or #text + 1
end

-- Returns the place after a string that begins at `at`, or nil if it has no end.
local function skip_string(text, at)
  at = at + 1
  while true do
    at = string.find(text, '["\\]', at)
    if at == nil then return nil end
    if string.byte(text, at) == 34 then return at + 1 end
    at = at + 2
  end
end

local walk

-- Both return the place after the value and, if there is one, the path of an unknown
-- field. No place means that the text is no JSON: that is the transcoder's to tell.
local function walk_object(text, at, message, path, depth)
  at = skip_space(text, at + 1)
  if string.sub(text, at, at) == "}" then return at + 1 end
  while string.sub(text, at, at) == '"' do
    local after = skip_string(text, at)
    if after == nil then return nil end
    local key = string.sub(text, at + 1, after - 2)
    local field = path == "" and key or path .. "." .. key
    local kind = ""
    if message ~= nil then
      kind = message[key]
      if kind == nil then return nil, field end
    end
    at = skip_space(text, after)
    if string.sub(text, at, at) ~= ":" then return nil end
    local unknown
    at, unknown = walk(text, skip_space(text, at + 1), MESSAGES[kind], field, depth + 1)
    if at == nil then return nil, unknown end
    at = skip_space(text, at)
    local mark = string.sub(text, at, at)
    if mark == "}" then return at + 1 end
    if mark ~= "," then return nil end
    at = skip_space(text, at + 1)
  end
  return nil
end

local function walk_array(text, at, message, path, depth)
  at = skip_space(text, at + 1)
  if string.sub(text, at, at) == "]" then return at + 1 end
  local index = 0
  while at <= #text do
    local unknown
    at, unknown = walk(text, at, message, path .. "[" .. index .. "]", depth + 1)
    if at == nil then return nil, unknown end
    at = skip_space(text, at)
    local mark = string.sub(text, at, at)
    if mark == "]" then return at + 1 end
    if mark ~= "," then return nil end
    at = skip_space(text, at + 1)
    index = index + 1
  end
  return nil
end

function walk(text, at, message, path, depth)
  if depth > DEEPEST then return nil end
  local first = string.sub(text, at, at)
  if first == "{" then return walk_object(text, at, message, path, depth) end
  if first == "[" then return walk_array(text, at, message, path, depth) end
  if first == '"' then return skip_string(text, at) end
  return string.find(text, "[,%]} \t\r\n]", at) or #text + 1
end

local function body_message(path)
  path = string.match(path, "^[^?]*")
  for _, request in ipairs(REQUESTS) do
    if string.match(path, request[1]) then return MESSAGES[request[2]] end
  end
  return nil
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if headers:get(":method") ~= "POST" then return end
  local message = body_message(headers:get(":path"))
  if message == nil then return end
  local body = handle:body()
  if body == nil then return end
  local text = body:getBytes(0, body:length())
  local _, unknown = walk(text, skip_space(text, 1), message, "", 0)
  if unknown == nil then return end
  -- listeners/replies.yaml makes the answer of it.
  local field = string.gsub(string.sub(unknown, 1, 200), "[%c\128-\255]", "?")
  handle:streamInfo():dynamicMetadata():set("mda.strict", "field", field)
  handle:respond({[":status"] = "400"}, field .. ": there is no such field. Check its spelling against the API reference.")
end
