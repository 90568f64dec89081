<?php

declare(strict_types=1);

namespace Recado\Exception;

/** The answer is too long, or is none of Recado: the address leads somewhere else. */
final class BadAnswer extends RecadoException
{
}
