-- Tells Argo CD how an object of the API group berth.io fares. It goes for all kinds:
-- those that users write and Speaker have the condition Ready.
--
-- Healthy: what the object asks for is in force. Degraded: it is not; the message says why.
-- Progressing: Berth has not read this version of the object.
local health = {
  status = "Progressing",
  message = "Berth has not read this version of the object.",
}
if obj.metadata.deletionTimestamp ~= nil then
  health.message = "The object is being deleted."
  return health
end
local status = obj.status or {}
local generation = obj.metadata.generation
-- Speakers have no such field: they are written by Berth, and always up to date.
if status.observedGeneration ~= nil and status.observedGeneration ~= generation then
  return health
end
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" then
    local observed = condition.observedGeneration
    if obj.kind ~= "Speaker" and observed ~= nil and observed ~= generation then
      return health
    end
    health.message = condition.reason .. ": " .. condition.message
    if condition.status == "True" then
      health.status = "Healthy"
    elseif condition.status == "False" then
      health.status = "Degraded"
    end
  end
end
return health
