/**
 * SIGHUP and SIGUSR2 end a process that has no handler for them. So both have one before the rest of the runtime is loaded: a
 * second SIGUSR2 during a replacement must not end the new runtime (HANDOVER 18.8).
 */
let replace: (() => void) | null = null
let isAsked = false

export function takeSignals(): void {
  // Closing the terminal does not end the runtime. The body's own handler of SIGHUP reads the operators again.
  process.on('SIGHUP', () => {})
  process.on('SIGUSR2', () => {
    isAsked = true
    if (replace !== null) pass(replace)
  })
}

/** Calls the listener at SIGUSR2, and now when the signal came before. */
export function onReplaceSignal(listener: () => void): void {
  replace = listener
  if (isAsked) pass(listener)
}

function pass(listener: () => void): void {
  isAsked = false
  listener()
}
