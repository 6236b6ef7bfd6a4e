// usage: node_cluster.js PORT FOLDER
// node's cluster module: the parent accepts, and passes each connection to one of two workers, which serve the
// files of the folder.
"use strict";
const cluster = require("cluster");

if (cluster.isPrimary) {
    cluster.setupPrimary({ exec: `${__dirname}/node_server.js`, args: process.argv.slice(2) });
    cluster.fork();
    cluster.fork();
    process.on("SIGTERM", () => {
        for (const worker of Object.values(cluster.workers)) worker.process.kill();
        process.exit(0);
    });
}
