# Try again what may work the second time.

# Run a closure until it succeeds, and give back what it gave. Ctrl-C ends it at once; the last failure is
# raised as it was.
@example "a file that appears in a moment" { retry { open links.json } --pause 200ms }
@example "nothing fails" { retry { 1 + 1 } } --result 2
export def main [
    action: closure        # What to run.
    --times (-t): int = 3  # Upper bound of attempts.
    --pause (-p): duration = 1sec  # Between two attempts.
]: nothing -> any {
    for attempt in 1..$times {
        try { return (do $action) } catch {|err|
            if $err.msg == "Operation interrupted" or $attempt == $times { return $err.raw }
            print --stderr $"attempt ($attempt) of ($times) failed: ($err.msg)"
            sleep $pause
        }
    }
}
