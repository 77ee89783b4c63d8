-- Server-sent events get an `id` line with their cursor, so that a browser that connects
-- again says it in `Last-Event-ID`. An event may come in pieces: what has no end yet waits.

local LONGEST = 16777216

local function with_id(event)
  local cursor = string.match(event, '"cursor":"([%w_-]+)"[,}]')
  if cursor == nil then return event end
  return "id: " .. cursor .. "\n" .. event
end

function envoy_on_response(response_handle)
  local kind = response_handle:headers():get("content-type")
  if kind == nil or string.find(kind, "text/event-stream", 1, true) ~= 1 then return end
  local rest = ""
  for chunk in response_handle:bodyChunks() do
    local text = rest .. chunk:getBytes(0, chunk:length())
    local events = {}
    local at = 1
    while true do
      local from, to = string.find(text, "\n\n", at, true)
      if from == nil then break end
      events[#events + 1] = with_id(string.sub(text, at, to))
      at = to + 1
    end
    rest = string.sub(text, at)
    if #rest > LONGEST then
      events[#events + 1] = rest
      rest = ""
    end
    chunk:setBytes(table.concat(events))
  end
end
