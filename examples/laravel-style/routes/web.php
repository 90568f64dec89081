<?php

declare(strict_types=1);

use App\Http\Controllers\NoteController;
use App\Http\Controllers\RecadoController;

return [
    'GET /' => [NoteController::class, 'index'],
    'POST /notes' => [NoteController::class, 'store'],
    'GET /recado/rooms' => [RecadoController::class, 'rooms'],
];
