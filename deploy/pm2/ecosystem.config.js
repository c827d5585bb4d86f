// pm2 start deploy/pm2/ecosystem.config.js     from the folder with .env and gateway.yaml
//
// One instance: the gateway starts a worker for each core itself, replaces those that die and shares ports, limits and
// budgets among them. PM2's cluster mode is Node's own and of no use here.
const { existsSync } = require('node:fs');
const { join } = require('node:path');

const folder = process.cwd();
const own = join(folder, '.venv/bin/model-gateway'); // what `make run` has installed

module.exports = {
  apps: [{
    name: 'model-gateway',
    cwd: folder,
    script: existsSync(own) ? own : 'model-gateway',
    args: 'serve --workers max',
    interpreter: 'none',
    exec_mode: 'fork',
    instances: 1,
    env: { GATEWAY_ENV: 'production' },
    kill_timeout: 45000, // longer than server.shutdownGrace (30 s)
    treekill: false, // the main process ends its workers when they have done what they had begun
    stop_exit_codes: [2], // wrong configuration, which no restart mends
    time: false, // log lines have their own
  }],
};
