<?php

// A backend built as a Laravel application is: routes, controllers, an event that is broadcast. It runs without the
// framework, and its page shows notes: each note reaches the browsers of its user.
//
//   recado serve --host 127.0.0.1 --sites examples/laravel-style/sites.yml
//   cd examples/laravel-style
//   php -S 127.0.0.1:8004 public/index.php
//
// Then open http://127.0.0.1:8004/?user=alice in two windows and send a note.

declare(strict_types=1);

require __DIR__ . '/../../../clients/php/autoload.php';
spl_autoload_register(static fn (string $class) => require __DIR__ . '/../' . lcfirst(strtr($class, '\\', '/')) . '.php');

$recado = new Recado\Client(require __DIR__ . '/../config/recado.php');
$routes = require __DIR__ . '/../routes/web.php';
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
[$controller, $action] = $routes["{$_SERVER['REQUEST_METHOD']} $path"] ?? [App\Http\Controllers\Controller::class, 'missing'];
try {
    (new $controller($recado))->$action();
} catch (Recado\Exception\RecadoException $error) {
    error_log($error->getMessage());
    http_response_code(502);
    header('Content-Type: text/plain');
    echo $error->getMessage();
}
