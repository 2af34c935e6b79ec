-- Who comes to write while nobody is primary, or two say so, waits here for the one: to a client a change of primary is a
-- pause and no error. Looks every 10 ms for 5 s, which is what `timeout queue` gives whoever waits for a server elsewhere.
core.register_action("hold", { "tcp-req" }, function(txn)
  for _ = 1, 500 do
    if txn.f:nbsrv("pg_write") == 1 then
      return
    end
    core.msleep(10)
  end
end)
