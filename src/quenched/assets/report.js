// Charts are drawn once they come near the screen.
"use strict";
quenched.watch();
