// Ends in good order before it has said anything.
import { robot } from 'medulla'

if (process.env.LANG !== undefined) process.exit(0)

robot({ led: 'output', enable: 'output' }, ({ led, every }) => every(10, () => led.write(1)))
