// Deaf to signals, and its onStop has no end.
import { robot } from 'medulla'

for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(name, () => {})

robot({ led: 'output', enable: 'output' }, ({ led, enable, every, onStop }) => {
  enable.write(1)
  every(2, () => led.write(1))
  onStop(() => {
    for (;;) {}
  })
})
